"""The official recipe in small, on synthetic scenes, under real DistributedDataParallel.

Read `loop` first; `scenes` and `raycast` draw the pictures and their exact depth.
"""
