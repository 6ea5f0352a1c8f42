# Files what Backstop marked as junk into the folder Junk.
#
# Dovecot (Pigeonhole), for all users, before their own scripts:
#
#   cp backstop.sieve /etc/dovecot/sieve-before/ && sievec /etc/dovecot/sieve-before/backstop.sieve
#
#   plugin {
#     sieve_before = /etc/dovecot/sieve-before        # Dovecot 2.3
#   }
#
#   sieve_script backstop {                           # Dovecot 2.4
#     type = before
#     path = /etc/dovecot/sieve-before/backstop.sieve
#   }
#
# The mark is X-Backstop: junk; ... as the first words of that field. Backstop removes forged ones; one that slips
# through can only send its own mail into Junk.

require ["fileinto", "mailbox"];

if header :matches "X-Backstop" ["junk", "junk;*"] {
    fileinto :create "Junk";
    stop;
}
