"""What a build does on the disk: files, flushes, links, and the step that publishes them."""
