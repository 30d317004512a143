"""Models that llmdeploy knows by name, and the one that it writes itself."""
