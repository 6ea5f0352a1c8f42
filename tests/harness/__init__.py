"""What tests stand on: real servers, a mail server's side of the milter protocol, mail."""
