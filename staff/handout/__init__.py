"""A homework's handout, its answer templates and its key: all made from Markdown in `staff/NAME/written/`."""
