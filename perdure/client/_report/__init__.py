"""A run as one page: HTML that needs no network and no server. Client side; pure, from a timeline that was read.

`page` puts it together, `bars` draws the timeline, `graph` a plan, `talk` has the conversations, and `markup` is
the one place where text becomes HTML. `page.html`, `page.css` and `page.js` are data.
"""
