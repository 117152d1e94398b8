"""The page to look at: what the outbox holds, as one HTML file that needs nothing else.

`facts` reads, `steps` cuts histories down to what a chart can show, `write` makes the file.
"""
