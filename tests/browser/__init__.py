"""A package, so that its conftest and that of the other tests have different names."""
