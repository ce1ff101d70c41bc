"""Sources of recordings. A plug-in lists records and reads the bytes of one."""
