/* A minimal viewer of QEMU's D-Bus display (qemu/ui/dbus-display1.xml), by sd-bus: what a frame costs a program in C.
 * Descriptor 3 is the connection that QMP's add_client has handed to QEMU. Maps each framebuffer of Console_0 that QEMU
 * shares, and copies what changes into a picture of its own before it answers. A new framebuffer is copied with the
 * update that follows it, or by itself if there is none for 20 ms.
 * Prints "ready" once QEMU knows the listener, and for each line on stdin how many frames it has copied. */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* From sd-bus.h, whose package needs the exact version of the library. */
typedef struct sd_bus sd_bus;
typedef struct sd_bus_message sd_bus_message;
typedef int (*handler)(sd_bus_message *, void *, void *);
int sd_bus_new(sd_bus **);
int sd_bus_set_fd(sd_bus *, int, int);
int sd_bus_start(sd_bus *);
int sd_bus_add_object(sd_bus *, void **, const char *, handler, void *);
int sd_bus_call_method(sd_bus *, const char *, const char *, const char *, const char *, void *, sd_bus_message **,
                       const char *, ...);
int sd_bus_get_fd(sd_bus *);
int sd_bus_get_events(sd_bus *);
int sd_bus_process(sd_bus *, sd_bus_message **);
int sd_bus_message_is_method_call(sd_bus_message *, const char *, const char *);
int sd_bus_message_read(sd_bus_message *, const char *, ...);
int sd_bus_reply_method_return(sd_bus_message *, const char *, ...);

static const char *const listener = "org.qemu.Display1.Listener";
static const char *const map = "org.qemu.Display1.Listener.Unix.Map";

static uint8_t *shared, *picture;
static size_t shared_size;
static uint32_t width, height, stride;
static unsigned long frames;
static int is_stale;

static int fail(const char *what, int error)
{
	fprintf(stderr, "client.c: %s: %s\n", what, strerror(error < 0 ? -error : errno));
	exit(1);
}

static void copy(uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
	if (!shared || x > width || y > height || w > width - x || h > height - y) return;
	if (is_stale) {
		x = y = 0;
		w = width;
		h = height;
		is_stale = 0;
	}
	for (uint32_t row = y; row < y + h; row++) {
		size_t at = (size_t)row * stride + x * 4;
		memcpy(picture + at, shared + at, (size_t)w * 4);
	}
	frames++;
}

static void scanout(sd_bus_message *m)
{
	int fd;
	uint32_t offset, format;
	int r = sd_bus_message_read(m, "huuuuu", &fd, &offset, &width, &height, &stride, &format);
	if (r < 0) fail("ScanoutMap", r);
	if (shared) munmap(shared, shared_size);
	size_t before = shared_size;
	shared_size = offset + (size_t)stride * height;
	shared = mmap(NULL, shared_size, PROT_READ, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED) fail("mmap", 0);
	if (shared_size != before) picture = realloc(picture, shared_size);
	is_stale = 1;
}

static int called(sd_bus_message *m, void *data, void *error)
{
	(void)data;
	(void)error;
	int32_t x, y, w, h;
	if (sd_bus_message_is_method_call(m, map, "UpdateMap")) {
		if (sd_bus_message_read(m, "iiii", &x, &y, &w, &h) >= 0) copy(x, y, w, h);
	} else if (sd_bus_message_is_method_call(m, map, "ScanoutMap")) {
		scanout(m);
	} else if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "GetAll")) {
		return sd_bus_reply_method_return(m, "a{sv}", 1, "Interfaces", "as", 1, map);
	} else if (!sd_bus_message_is_method_call(m, listener, NULL) && !sd_bus_message_is_method_call(m, map, NULL)) {
		return 0;
	}
	return sd_bus_reply_method_return(m, "");
}

int main(void)
{
	sd_bus *display, *listening;
	int pair[2], r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) fail("socketpair", 0);
	if ((r = sd_bus_new(&display)) < 0 || (r = sd_bus_set_fd(display, 3, 3)) < 0 || (r = sd_bus_start(display)) < 0)
		fail("the connection to QEMU", r);
	if ((r = sd_bus_new(&listening)) < 0 || (r = sd_bus_set_fd(listening, pair[0], pair[0])) < 0 ||
	    (r = sd_bus_add_object(listening, NULL, "/org/qemu/Display1/Listener", called, NULL)) < 0 ||
	    (r = sd_bus_start(listening)) < 0)
		fail("the listener", r);
	r = sd_bus_call_method(display, NULL, "/org/qemu/Display1/Console_0", "org.qemu.Display1.Console",
	                       "RegisterListener", NULL, NULL, "h", pair[1]);
	if (r < 0) fail("RegisterListener", r);
	close(pair[1]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		while ((r = sd_bus_process(listening, NULL)) > 0) continue;
		if (r < 0) fail("the listener", r);
		int events = sd_bus_get_events(listening);
		struct pollfd fds[] = { { sd_bus_get_fd(listening), events, 0 }, { 0, POLLIN, 0 } };
		int ready = poll(fds, 2, is_stale ? 20 : -1);
		if (ready < 0 && errno != EINTR) fail("poll", 0);
		if (ready == 0) copy(0, 0, width, height);
		if (fds[1].revents) {
			char line[64];
			if (!fgets(line, sizeof line, stdin)) return 0;
			printf("%lu\n", frames);
			fflush(stdout);
		}
	}
}
