"""RabbitMQ's resource alarms (memory, disk): while one lasts, RabbitMQ accepts no messages from any publisher."""

from __future__ import annotations

from typing import Any

# In an alarm RabbitMQ answers the first message that a connection publishes with connection.blocked. No queue has this name, so a message to it
# is dropped; connection.blocked arrives before the answer to a later request. Source: RabbitMQ, Blocked Connection Notifications.
TO_NOBODY = "embedq.nobody"
ALARM_WAIT_S = 0.05


class _Alarm(Exception):
    pass


def note_alarm(reason: str) -> None:
    """Callback for py-amqp's `on_blocked`."""
    raise _Alarm(str(reason) or "an alarm")


def alarm_of(connection: Any) -> str:
    """The reason of an alarm as RabbitMQ words it; empty without an alarm. The connection was made with `note_alarm`, and must be closed after an alarm."""
    from amqp import Message

    channel = connection.channel()
    channel.basic_publish(Message(""), routing_key=TO_NOBODY)
    try:
        connection.drain_events(timeout=ALARM_WAIT_S)
    except TimeoutError:
        return ""
    except _Alarm as told:
        return str(told)
    return ""
