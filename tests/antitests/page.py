def page(a):
    return ""
