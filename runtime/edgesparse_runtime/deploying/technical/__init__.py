"""The Cyber Resilience Act's technical documentation, as far as a bundle and its reports fill it."""
