"""Files written so that nothing is lost, by the standard library: bytes of ours around ranges of the source.

Read `plan` first; `torch_zip` and `safetensors` make plans, `renaming` one that keeps everything but the names.
`replacing` gives a file its name in one step, when it is whole; `leftovers` clears up after killed runs.
"""
