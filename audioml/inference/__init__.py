"""Audio bytes in, prediction out: the one path that all users of a model share."""
