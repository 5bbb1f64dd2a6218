"""The tests of Flashsale; a package, so that no installed `tests` can shadow it."""
