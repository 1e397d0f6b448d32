def mount(app): pass
