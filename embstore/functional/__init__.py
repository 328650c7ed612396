"""TensorFlow's family of embedding lookups, over stores and arrays."""
