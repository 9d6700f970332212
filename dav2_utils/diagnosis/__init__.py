"""Why two tables differ and what to do about it, for files and for error texts; the standard library alone.

Read `diagnose` first (two tables), then `explain` (an error text); `causes` names what they find.
"""
