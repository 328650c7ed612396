"""Settings of object stores from the environment, as each provider's own tools take them.

No provider's metadata service is asked, ever: on a machine that has a role, its credentials are put
into the environment by the provider's own tool. Where no credentials are found, an endpoint that is
set gets requests without a signature, and otherwise there is an error, before any request.
"""
