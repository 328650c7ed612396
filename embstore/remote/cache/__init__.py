"""The cache of remote stores on a local disk: whole chunk files, shared by many processes."""
