"""The two operators that no runtime has: selective scan and expert gate."""
