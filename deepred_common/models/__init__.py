"""Models on disk and in memory: folders and what is in them, weights files, loading, the embedded base."""
