"""Views of stores for other libraries; each module is imported only on request."""
