"""What only the lessons need.

Read `exercises` first (`check`), then `plots`; `widgets` decorate what `views` computes.
"""
