"""What docs/ does not hold as text written by hand: pages and pictures, and the site around them.

python -m docs.written    writes every generated page and picture anew
"""
