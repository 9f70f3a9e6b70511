"""HTML: Jinja2 templates with one style sheet, and the plots in them."""
