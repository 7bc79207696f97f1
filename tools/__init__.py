"""Commands that maintain the course; camlib does not import them."""
