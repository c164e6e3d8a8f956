"""Which graph form of each block is fastest on this machine: candidate styles -> a race -> a choice per block.

``forms`` writes a block in a candidate's form, ``race`` times the candidates, ``record`` is what was found, as it
stands in the manifest.
"""
