"""The tree of commands that a command line has."""


def leaves(command, name):
    """Yield every command that does something, with its full name."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for part, inner in below.items():
        yield from leaves(inner, f"{name} {part}")
