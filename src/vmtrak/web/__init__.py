"""What both doors share: the guard, sign-in, errors on the wire, reading input."""
