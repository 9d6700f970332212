"""What a file holds, read without running it; the standard library alone.

Read `checkpoint` first: `inspect_file` is the way in. `formats` tells files apart, `pickles` follows a pickle as data.
"""
