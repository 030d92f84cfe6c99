"""The embedded world and its models: real inference for everyone, about a world that was made up."""
