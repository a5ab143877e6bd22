"""The live page: reads what a flight shows, or replays a folder. The flight knows nothing of it."""
