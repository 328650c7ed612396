"""Stores as other libraries know tables; each module is imported only when asked for."""
