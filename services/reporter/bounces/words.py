"""The words of letters about addresses that do not work, in each language; read by people who have never heard of SMTP."""

from __future__ import annotations

import msgspec


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """One language's. Names in braces are filled in."""

    subject: str
    suspended: str
    why: str
    answered: str
    probe_failed: str
    restore: str
    still: str
    probe_subject: str
    probe: str
    probe_nothing: str
    probe_else: str


EN = Words(
    subject="{member} gets no more mail from {group}",
    suspended=(
        "Mail to {member}, a member of the group {group}, comes back: the address does not work. The member was suspended: it stays in the "
        "group, and gets no more copies."
    ),
    why="What was answered, day by day:",
    answered="{day}: {reply}",
    probe_failed="A message of ours that asked whether the address works came back as well: {reply}",
    restore="If the address works again, bring the member back with this command:",
    still="If it is misspelt, or the person has another one, remove this address and add the right one.",
    probe_subject="Does mail from {group} reach you?",
    probe=(
        "You are a member of the group {group}. We were told that mail to your address {member} cannot be delivered. This message finds "
        "out whether that is true."
    ),
    probe_nothing="You can read it, so your address works. There is nothing for you to do, and you go on getting the group's mail.",
    probe_else="Please do not answer: nobody reads the answers. Whoever looks after the group can be reached at {owner}.",
)

BG = Words(
    subject="{member} вече не получава поща от {group}",
    suspended=(
        "Съобщенията до {member}, абонат на групата {group}, се връщат: адресът не работи. Изпращането до този абонат е спряно: "
        "той остава в групата, но не получава повече копия."
    ),
    why="Какво беше отговорено, по дни:",
    answered="{day}: {reply}",
    probe_failed="Върна се и съобщението, с което проверихме дали адресът работи: {reply}",
    restore="Ако адресът отново заработи, върнете абоната с тази команда:",
    still="Ако адресът е сгрешен или човекът вече ползва друг, премахнете този адрес и добавете верния.",
    probe_subject="Стига ли до Вас пощата от {group}?",
    probe=(
        "Вие сте абонат на групата {group}. Получихме известие, че съобщенията до Вашия адрес {member} не могат да бъдат доставени. "
        "С това съобщение проверяваме дали е така."
    ),
    probe_nothing="Щом го четете, адресът Ви работи. Не е нужно да правите нищо и ще продължите да получавате пощата на групата.",
    probe_else="Моля, не отговаряйте: никой не чете отговорите. С хората, които се грижат за групата, можете да се свържете на {owner}.",
)

WORDS = {"en": EN, "bg": BG}
