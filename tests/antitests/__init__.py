"""Each protective mechanism taken out in turn: its test must go red, or it protects nobody.

A test that is green without what it tests proves nothing, and nobody sees that by running it. So
`make antitests` copies the tree, takes one mechanism out of the copy, runs the mechanism's test
there, and fails when that stays green.

A new mechanism is one `AntiTest` in the module of `mechanisms/` that fits, and then
`python -m tests.antitests --page > docs/guarantees.md`.
"""
