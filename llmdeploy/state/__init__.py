"""What llmdeploy knows to exist: the state, its journal, its lock, and where they lie."""
