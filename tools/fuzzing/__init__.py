"""What ``tools/fuzz.py`` feeds with damaged input, a module each, and the process that holds it to its promise."""
