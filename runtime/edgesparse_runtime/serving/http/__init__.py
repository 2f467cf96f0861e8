"""HTTP beneath the routes: connections and their limits, access control, TLS files."""
