# Reads one message as the programs of other people do (Mail::DeliveryStatus::BounceParser), and prints what it makes of it as JSON.
use strict;
use warnings;
use JSON::PP;
use Mail::DeliveryStatus::BounceParser;

binmode STDIN;
local $/;
my $bounce = Mail::DeliveryStatus::BounceParser->new(<STDIN>);
my @reports = map { my $one = $_; +{ map { $_ => scalar $one->get($_) } qw(email action status std_reason smtp_code reason) } } $bounce->reports;
print encode_json({ bounce => $bounce->is_bounce ? 1 : 0, reports => \@reports, original => $bounce->orig_message_id });
