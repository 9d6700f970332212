"""Files written so that nothing is ever lost, by the standard library alone.

Read `replacing` first: written beside, forced to the disk, named in one step. `disk` has the
single steps, `leftovers` clears up after killed runs.
"""
