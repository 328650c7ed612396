"""Is a store what its build wrote? Checks that come before anything is believed."""
