"""The words in English."""

from __future__ import annotations

from services.reporter.causes import Cause
from services.reporter.decide import Action
from services.reporter.texts.words import Explained, Plural, Texts
from shared.messages import Reason

EN = Texts(
    language="en",
    sender="Mail Delivery System",
    label_subject="Subject:",
    label_from="From:",
    label_to="Sent to:",
    label_received="Received:",
    label_id="Message-ID:",
    your_message="Your message",
    the_message="The message",
    answer="Its mail server answered:",
    detail="Technically:",
    tried="Last tried: {when}",
    subject={
        Action.DELIVERED: "Delivered: your message to {group}",
        Action.EXPANDED: "Passed on: your message to {group}",
        Action.RELAYED: "Passed on: your message to {group}",
        Action.FAILED: "Not delivered: your message to {group}",
        Action.DELAYED: "Delayed: your message to {group}",
    },
    delivered="Your message to {group} has arrived. A copy is on its way to everyone there who is to get one.",
    settled=(
        "Your message to {group} has arrived, and the delivery of its copies to the people there has come to its end: "
        "no copy is still waiting."
    ),
    expanded=(
        "Your message to {group} has arrived and was passed on to everyone behind that address. "
        "If a copy cannot be delivered, a separate message may tell you so."
    ),
    relayed=(
        "Your message to {group} has arrived and was handed on to the people behind that address. Their mail servers were not asked "
        "to confirm it, so no further message will tell you that the copies have arrived."
    ),
    failed=Plural(
        "Your message to {group} could not be delivered to one of the people behind that address. It will not be tried again.",
        "Your message to {group} could not be delivered to {n} of the people behind that address. It will not be tried again.",
    ),
    gone=(
        "Your message to {group} was not delivered to anyone: there is no such group any more. "
        "If you still need to reach these people, please write to them in another way."
    ),
    delayed=Plural(
        "Your message to {group} has not reached one of the people behind that address yet. You need not send it again: "
        "delivery is tried until {until}.",
        "Your message to {group} has not reached {n} of the people behind that address yet. You need not send it again: "
        "delivery is tried until {until}.",
    ),
    nothing_to_do="You need not do anything.",
    still_tried=Plural(
        "Delivery to one more person is still being tried.", "Delivery to {n} more people is still being tried."
    ),
    footer="This is an automatic message from the mail system {host}. Please do not reply to it: nobody would read your answer.",
    part_report="Report",
    part_status="Delivery status, for programs",
    part_header="Header of your message",
    part_message="Your message",
    notice_subject=Plural("1 member of {group} did not get a message", "{n} members of {group} did not get a message"),
    notice=Plural(
        "A message to the group {group} could not be delivered to 1 member. It will not be tried again.",
        "A message to the group {group} could not be delivered to {n} members. It will not be tried again for them.",
    ),
    notice_again=Plural(
        "You have had a notice about this message before. Meanwhile it has failed for 1 member in all, and will not be tried again.",
        "You have had a notice about this message before. Meanwhile it has failed for {n} members in all, and will not be tried again "
        "for them.",
    ),
    notice_waiting=Plural(
        "For 1 more member delivery is still being tried.", "For {n} more members delivery is still being tried."
    ),
    notice_until="If it fails for them too, one more notice will tell you. The last attempt is made by {when}.",
    forward_subject=Plural(
        "Mail to {group} did not reach 1 of its readers", "Mail to {group} did not reach {n} of its readers"
    ),
    forward=Plural(
        "A message to {group} could not be delivered to 1 of the people who read that address. It will not be tried again.",
        "A message to {group} could not be delivered to {n} of the people who read that address. It will not be tried again.",
    ),
    more=Plural("... and 1 more", "... and {n} more"),
    author_not_told="The author was not told.",
    trace="What happened to every copy of this message:",
    why_owner="You get this because you look after the group {group}.",
    why_forward="You get this because you look after the mail of this domain.",
    setting="To get fewer or more such messages, set notify_owners to failures, posts, daily or none:",
    post_subject="{group}: {delivered} of {all} copies delivered",
    post_ended="The delivery of a message to the group {group} has come to its end.",
    post_nobody="A message to the group {group} had nobody to go to: everyone was left out, or the group has no members.",
    post_waiting="A message to the group {group} is not dealt with yet, and more time than usual has passed. This is how it stands.",
    count_delivered="Delivered:",
    count_failed="Not delivered:",
    count_waiting="No result yet:",
    count_left_out="Left out:",
    reasons={
        Reason.AUTHOR: "wrote the message",
        Reason.TO_CC: "in To or Cc already",
        Reason.DUPLICATE: "have a copy already",
        Reason.PAUSED: "have paused delivery",
        Reason.SUSPENDED: "suspended, as mail to them failed",
        Reason.SUBGROUP_DISABLED: "groups that are switched off",
        Reason.SIGNALS_DISABLED: "groups that take no signals",
        Reason.NOT_NESTED: "groups of other domains that do not allow it",
        Reason.CYCLE: "groups that the message had been through",
        Reason.LOOP: "a copy that came back",
        Reason.REPETITION: "the same message again",
        Reason.STOPPED: "the fan-out was stopped",
    },
    verdicts={
        "gone": "The group was deleted before the message could be passed on.",
        "loop": "The message had been through this group already.",
    },
    day_subject="Daily summary of {group}: {day}",
    day_posts=Plural(
        "On {day} (UTC) the group {group} got 1 message.", "On {day} (UTC) the group {group} got {n} messages."
    ),
    day_none="On {day} (UTC) the group {group} got no message.",
    day_copies="Copies of them",
    day_list="The messages",
    day_failures=Plural("On this day 1 copy failed for good", "On this day {n} copies failed for good"),
    day_suspended=Plural(
        "1 member gets no mail because the address does not work",
        "{n} members get no mail because their addresses do not work",
    ),
    day_suspended_do="When an address works again, bring the member back:",
    nobody="(no sender)",
    no_subject="(no subject)",
    causes={
        Cause.UNKNOWN: Explained(
            "There is no such mailbox",
            "The address is misspelt, or its mailbox was closed. Correct it in the list of members, or remove the member.",
            "The address is misspelt, or its mailbox was closed. Reach the person in another way, or ask whoever looks after the group "
            "to correct the address.",
        ),
        Cause.DOMAIN: Explained(
            "The part after the @ does not exist or takes no mail",
            "The address is misspelt, or the company or service behind it is gone. Correct it in the list of members, or remove the member.",
            "The address is misspelt, or the company or service behind it is gone. Reach the person in another way, or ask whoever looks "
            "after the group to correct the address.",
        ),
        Cause.DISABLED: Explained(
            "The mailbox is switched off",
            "It exists, but takes no mail at present. Ask the member, or whoever runs that mail, whether it will work again.",
            "It exists, but takes no mail at present. Reach the person in another way.",
        ),
        Cause.FULL: Explained(
            "The mailbox is full",
            "It takes mail again when its owner has made room. Let the member know in another way.",
            "It takes mail again when its owner has made room. Let the person know in another way, and send the message again later.",
        ),
        Cause.TOO_LARGE: Explained(
            "The message is too large for the receiving server",
            "Nothing is wrong with the address. The author may send a smaller message, or a link in place of an attachment.",
            "Nothing is wrong with the address. Send a smaller message, or a link in place of the attachment.",
        ),
        Cause.REFUSED: Explained(
            "The receiving server did not want this message",
            "Nothing is wrong with the address: the server took the message for spam, or does not trust its sender. Do not remove the member "
            "for it. The answer below says more to whoever runs your mail.",
            "Nothing is wrong with the address: the server took the message for spam, or does not trust its sender. Show the answer below "
            "to whoever runs your mail.",
        ),
        Cause.EXPIRED: Explained(
            "It was tried until the time was up",
            "The receiving server could not be reached, or put the message off again and again. The address may well be right; if it happens "
            "with every message, ask the member for another one.",
            "The receiving server could not be reached, or put the message off again and again. Send the message again later, or reach the "
            "person in another way.",
        ),
        Cause.UNREACHABLE: Explained(
            "The receiving server cannot be reached",
            "Such trouble mostly passes by itself. If it happens with every message, ask the member for another address.",
            "Such trouble mostly passes by itself.",
        ),
        Cause.ALPHABET: Explained(
            "The receiving server cannot handle addresses in this alphabet",
            "Its mail system is too old for addresses with other than Latin letters. Ask the member for an address in Latin letters, or "
            "the author to write from one.",
            "Its mail system is too old for addresses with other than Latin letters. Write from an address in Latin letters.",
        ),
        Cause.LOOP: Explained(
            "The receiving side sends the message round in a circle",
            "The mail of that domain, or a forwarding there, is set up wrongly. Tell the member or whoever runs that mail.",
            "The mail of that domain, or a forwarding there, is set up wrongly. Reach the person in another way.",
        ),
        Cause.UNSURE: Explained(
            "Nobody knows whether the message has arrived",
            "The receiving server took all of the message and then said nothing. The member may have it, even more than once; ask if it matters.",
            "The receiving server took all of the message and then said nothing. The person may have it, even more than once; ask if it matters.",
        ),
        Cause.BUSY: Explained(
            "The receiving server asks for patience",
            "It is busy, or wants unknown senders to come back later. This mostly passes by itself.",
            "It is busy, or wants unknown senders to come back later. This mostly passes by itself.",
        ),
        Cause.OTHER: Explained(
            "The receiving server refused the message",
            "Its answer below says why. If it happens with every message, ask the member, or show it to whoever runs your mail.",
            "Its answer below says why. Reach the person in another way, or show it to whoever runs your mail.",
        ),
    },
)
