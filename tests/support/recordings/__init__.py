"""Generated recordings, and streams of them."""
