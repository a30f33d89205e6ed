"""Large payloads outside of Event History: where they are kept, and when they may go. Client and worker side."""
