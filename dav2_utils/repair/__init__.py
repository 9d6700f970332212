"""A diagnosis carried out on a file so that nothing is lost; torch is imported inside the functions that need it.

Read `fixing` first: `fix_file` is the way in. `writing` turns tensors into bytes and proves them.
"""
