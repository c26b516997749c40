/*
 * The peer of the window benchmarks: a minimal client in C on libwayland-client that shows pictures
 * at the compositor's pace. It attaches, damages, requests a frame callback and commits; then it
 * waits for that callback, and for a buffer that the compositor has released.
 *
 *     wayland-client shm|dmabuf WIDTH HEIGHT DAMAGE-WIDTH DAMAGE-HEIGHT
 *
 * shm: copies the damage from one of two pictures in a memfd, like guest memory, into one of two
 * buffers of a wl_shm_pool. dmabuf: shows two pictures in turn, each of them a udmabuf.
 *
 * Each line of stdin is a number of frames to show. The answer is a line with three times in
 * microseconds: processor time of all frames; median and 99th percentile of the time from the
 * decision to show a picture until sendmsg has returned.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <wayland-client.h>
#include "linux-dmabuf-v1.h"
#include "xdg-shell.h"

#define DRM_FORMAT_XRGB8888 0x34325258
#define BUFFERS 2
#define MAX_FRAMES 10000

struct buffer {
	struct wl_buffer *wl;
	uint8_t *pixels;
	bool busy;
};

static struct wl_compositor *compositor;
static struct wl_shm *shm;
static struct xdg_wm_base *shell;
static struct zwp_linux_dmabuf_v1 *dmabuf;
static struct wl_display *display;
static struct wl_surface *surface;
static struct buffer buffers[BUFFERS];
static uint8_t *guest[BUFFERS];
static int width, height, damage_width, damage_height;
static size_t picture_size;
/* The size the compositor asks for; 0 if it leaves that to the client. */
static int window_width, window_height;
static bool copies, configured, frame_done;

static void *checked(void *pointer, const char *what)
{
	if (!pointer || pointer == MAP_FAILED)
		err(1, "%s", what);
	return pointer;
}

static void ping(void *data, struct xdg_wm_base *base, uint32_t serial)
{
	(void)data;
	xdg_wm_base_pong(base, serial);
}

static const struct xdg_wm_base_listener shell_listener = { .ping = ping };

static void *bound(struct wl_registry *registry, uint32_t name, const struct wl_interface *interface, uint32_t version)
{
	return checked(wl_registry_bind(registry, name, interface, version), interface->name);
}

static void global(void *data, struct wl_registry *registry, uint32_t name, const char *interface, uint32_t version)
{
	(void)data;
	(void)version;
	if (!strcmp(interface, wl_compositor_interface.name))
		compositor = bound(registry, name, &wl_compositor_interface, 4);
	else if (!strcmp(interface, wl_shm_interface.name))
		shm = bound(registry, name, &wl_shm_interface, 1);
	else if (!strcmp(interface, xdg_wm_base_interface.name))
		shell = bound(registry, name, &xdg_wm_base_interface, 1);
	else if (!strcmp(interface, zwp_linux_dmabuf_v1_interface.name))
		dmabuf = bound(registry, name, &zwp_linux_dmabuf_v1_interface, 2);
}

static void global_remove(void *data, struct wl_registry *registry, uint32_t name)
{
	(void)data;
	(void)registry;
	(void)name;
}

static const struct wl_registry_listener registry_listener = { .global = global, .global_remove = global_remove };

static void configure(void *data, struct xdg_surface *xdg_surface, uint32_t serial)
{
	(void)data;
	xdg_surface_ack_configure(xdg_surface, serial);
	configured = true;
}

static const struct xdg_surface_listener xdg_surface_listener = { .configure = configure };

static void toplevel_configure(void *data, struct xdg_toplevel *toplevel, int32_t w, int32_t h, struct wl_array *states)
{
	(void)data;
	(void)toplevel;
	(void)states;
	window_width = w;
	window_height = h;
}

static void toplevel_close(void *data, struct xdg_toplevel *toplevel)
{
	(void)data;
	(void)toplevel;
	errx(1, "the compositor closed the window");
}

static const struct xdg_toplevel_listener toplevel_listener = { .configure = toplevel_configure, .close = toplevel_close };

static void released(void *data, struct wl_buffer *wl)
{
	struct buffer *buffer = data;
	(void)wl;
	buffer->busy = false;
}

static const struct wl_buffer_listener buffer_listener = { .release = released };

static void done(void *data, struct wl_callback *callback, uint32_t time)
{
	(void)data;
	(void)time;
	wl_callback_destroy(callback);
	frame_done = true;
}

static const struct wl_callback_listener callback_listener = { .done = done };

/* A zeroed memfd of `size` bytes, sealed as udmabuf requires. */
static int memory(size_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		err(1, "memfd");
	return fd;
}

static uint8_t *mapped(int fd, size_t size)
{
	return checked(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), "mmap");
}

static void open_shm(void)
{
	int fd = memory(BUFFERS * picture_size);
	uint8_t *pixels = mapped(fd, BUFFERS * picture_size);
	struct wl_shm_pool *pool = wl_shm_create_pool(shm, fd, BUFFERS * picture_size);
	for (int i = 0; i < BUFFERS; i++) {
		buffers[i].pixels = pixels + i * picture_size;
		buffers[i].wl = wl_shm_pool_create_buffer(pool, i * picture_size, width, height, width * 4, WL_SHM_FORMAT_XRGB8888);
		guest[i] = mapped(memory(picture_size), picture_size);
		memset(guest[i], i + 1, picture_size);
	}
}

static void open_dmabuf(void)
{
	int driver = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (driver < 0)
		err(1, "/dev/udmabuf");
	for (int i = 0; i < BUFFERS; i++) {
		int memfd = memory(picture_size);
		memset(mapped(memfd, picture_size), i + 1, picture_size);
		struct udmabuf_create create = { .memfd = memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = picture_size };
		int fd = ioctl(driver, UDMABUF_CREATE, &create);
		if (fd < 0)
			err(1, "UDMABUF_CREATE");
		struct zwp_linux_buffer_params_v1 *params = zwp_linux_dmabuf_v1_create_params(dmabuf);
		zwp_linux_buffer_params_v1_add(params, fd, 0, 0, width * 4, 0, 0);
		buffers[i].wl = zwp_linux_buffer_params_v1_create_immed(params, width, height, DRM_FORMAT_XRGB8888, 0);
		zwp_linux_buffer_params_v1_destroy(params);
	}
}

static void dispatch(void)
{
	if (wl_display_dispatch(display) < 0)
		err(1, "wl_display_dispatch");
}

static double us(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void copy(uint8_t *to, const uint8_t *from)
{
	size_t stride = (size_t)width * 4, length = (size_t)damage_width * 4;
	if (length == stride) {
		memcpy(to, from, stride * damage_height);
		return;
	}
	for (int row = 0; row < damage_height; row++)
		memcpy(to + row * stride, from + row * stride, length);
}

static void show(struct buffer *buffer, const uint8_t *picture)
{
	while (buffer->busy)
		dispatch();
	if (copies)
		copy(buffer->pixels, picture);
	wl_surface_attach(surface, buffer->wl, 0, 0);
	wl_surface_damage_buffer(surface, 0, 0, damage_width, damage_height);
	wl_callback_add_listener(wl_surface_frame(surface), &callback_listener, NULL);
	wl_surface_commit(surface);
	buffer->busy = true;
	frame_done = false;
}

static void frames(int count, double *latencies)
{
	for (int i = 0; i < count; i++) {
		double started = us(CLOCK_MONOTONIC);
		show(&buffers[i % BUFFERS], guest[i % BUFFERS]);
		if (wl_display_flush(display) < 0)
			err(1, "wl_display_flush");
		latencies[i] = us(CLOCK_MONOTONIC) - started;
		while (!frame_done)
			dispatch();
	}
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc != 6)
		errx(1, "usage: wayland-client shm|dmabuf WIDTH HEIGHT DAMAGE-WIDTH DAMAGE-HEIGHT");
	copies = !strcmp(argv[1], "shm");
	width = atoi(argv[2]);
	height = atoi(argv[3]);
	damage_width = atoi(argv[4]);
	damage_height = atoi(argv[5]);
	picture_size = ((size_t)width * height * 4 + 4095) & ~4095UL;

	display = checked(wl_display_connect(NULL), "wl_display_connect");
	wl_registry_add_listener(wl_display_get_registry(display), &registry_listener, NULL);
	wl_display_roundtrip(display);
	if (!compositor || !shell || (copies ? !shm : !dmabuf))
		errx(1, "the compositor lacks wl_compositor, xdg_wm_base or %s", copies ? "wl_shm" : "zwp_linux_dmabuf_v1");
	xdg_wm_base_add_listener(shell, &shell_listener, NULL);
	surface = wl_compositor_create_surface(compositor);
	struct xdg_surface *xdg_surface = xdg_wm_base_get_xdg_surface(shell, surface);
	xdg_surface_add_listener(xdg_surface, &xdg_surface_listener, NULL);
	xdg_toplevel_add_listener(xdg_surface_get_toplevel(xdg_surface), &toplevel_listener, NULL);
	wl_surface_commit(surface);
	while (!configured)
		dispatch();
	/* On a full screen the picture may extend beyond the output, but the window may not. */
	if (window_width > 0 && window_height > 0)
		xdg_surface_set_window_geometry(xdg_surface, 0, 0, window_width, window_height);
	if (copies)
		open_shm();
	else
		open_dmabuf();
	for (int i = 0; i < BUFFERS; i++)
		wl_buffer_add_listener(buffers[i].wl, &buffer_listener, &buffers[i]);

	static double latencies[MAX_FRAMES];
	for (int count; scanf("%d", &count) == 1 && count > 0 && count <= MAX_FRAMES;) {
		/* Looked up to mark the beginning and end of the measured part in strace's output. */
		access("/scanout-bench-begin", F_OK);
		double before = us(CLOCK_PROCESS_CPUTIME_ID);
		frames(count, latencies);
		double cpu = us(CLOCK_PROCESS_CPUTIME_ID) - before;
		access("/scanout-bench-end", F_OK);
		qsort(latencies, count, sizeof(*latencies), ascending);
		printf("%.1f %.2f %.2f\n", cpu, latencies[count / 2], latencies[count * 99 / 100]);
		fflush(stdout);
	}
	return 0;
}
