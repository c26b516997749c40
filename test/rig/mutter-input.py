"""Operates Mutter's pointer and keyboard, through its remote desktop interface on the bus at argv[1]:
`move DX DY`, `button CODE 0|1`, `key CODE 0|1` on stdin, each answered by `done`."""

import sys

from gi.repository import Gio, GLib

NAME = 'org.gnome.Mutter.RemoteDesktop'
FLAGS = Gio.DBusConnectionFlags
bus = Gio.DBusConnection.new_for_address_sync(
    sys.argv[1], FLAGS.AUTHENTICATION_CLIENT | FLAGS.MESSAGE_BUS_CONNECTION, None, None)
loop = GLib.MainLoop()
Gio.bus_watch_name_on_connection(bus, NAME, Gio.BusNameWatcherFlags.NONE, lambda *_: loop.quit(), None)
loop.run()


def call(path, interface, method, arguments=None):
    return bus.call_sync(NAME, path, interface, method, arguments, None, Gio.DBusCallFlags.NONE, 30000, None).unpack()


session = call('/org/gnome/Mutter/RemoteDesktop', NAME, 'CreateSession')[0]
call(session, NAME + '.Session', 'Start')
METHODS = {'move': ('NotifyPointerMotionRelative', '(dd)', float),
           'button': ('NotifyPointerButton', '(ib)', int),
           'key': ('NotifyKeyboardKeycode', '(ub)', int)}
print('done', flush=True)
for line in sys.stdin:
    word, first, second = line.split()
    method, signature, number = METHODS[word]
    last = float(second) if word == 'move' else second == '1'
    call(session, NAME + '.Session', method, GLib.Variant(signature, (number(first), last)))
    print('done', flush=True)
