/**
 * The protocols to generate files for, with a version for each interface. Whatever later versions
 * add is left out until the number here is raised.
 */
export interface ProtocolSource {
  /** The generated files are named after it. */
  readonly name: string;
  /** Name of the XML file. Its directory is searched for: it changes when a protocol becomes stable. */
  readonly xml: string;
  readonly versions: Readonly<Record<string, number>>;
}

export const PROTOCOLS: readonly ProtocolSource[] = [
  {
    name: 'wayland',
    xml: 'wayland.xml',
    versions: {
      wl_display: 1,
      wl_registry: 1,
      wl_callback: 1,
      wl_compositor: 6,
      wl_shm_pool: 2,
      wl_shm: 2,
      wl_buffer: 1,
      wl_surface: 6,
      wl_seat: 9,
      wl_pointer: 9,
      wl_keyboard: 9,
      wl_touch: 9,
      wl_output: 4,
      wl_region: 1,
      wl_subcompositor: 1,
      wl_subsurface: 1,
      wl_data_device_manager: 3,
      wl_data_device: 3,
      wl_data_source: 3,
      wl_data_offer: 3,
    },
  },
  { name: 'xdg-shell', xml: 'xdg-shell.xml', versions: { xdg_wm_base: 7, xdg_surface: 7, xdg_toplevel: 7 } },
  {
    name: 'xdg-decoration',
    xml: 'xdg-decoration-unstable-v1.xml',
    versions: { zxdg_decoration_manager_v1: 1, zxdg_toplevel_decoration_v1: 1 },
  },
  {
    name: 'xdg-output',
    xml: 'xdg-output-unstable-v1.xml',
    versions: { zxdg_output_manager_v1: 3, zxdg_output_v1: 3 },
  },
  {
    name: 'xdg-activation',
    xml: 'xdg-activation-v1.xml',
    versions: { xdg_activation_v1: 1, xdg_activation_token_v1: 1 },
  },
  {
    name: 'xdg-toplevel-icon',
    xml: 'xdg-toplevel-icon-v1.xml',
    versions: { xdg_toplevel_icon_manager_v1: 1, xdg_toplevel_icon_v1: 1 },
  },
  {
    name: 'idle-inhibit',
    xml: 'idle-inhibit-unstable-v1.xml',
    versions: { zwp_idle_inhibit_manager_v1: 1, zwp_idle_inhibitor_v1: 1 },
  },
  { name: 'viewporter', xml: 'viewporter.xml', versions: { wp_viewporter: 1, wp_viewport: 1 } },
  {
    name: 'fractional-scale',
    xml: 'fractional-scale-v1.xml',
    versions: { wp_fractional_scale_manager_v1: 1, wp_fractional_scale_v1: 1 },
  },
  {
    name: 'linux-dmabuf',
    xml: 'linux-dmabuf-v1.xml',
    versions: { zwp_linux_dmabuf_v1: 5, zwp_linux_buffer_params_v1: 5, zwp_linux_dmabuf_feedback_v1: 5 },
  },
  {
    name: 'presentation-time',
    xml: 'presentation-time.xml',
    versions: { wp_presentation: 2, wp_presentation_feedback: 2 },
  },
  {
    name: 'linux-drm-syncobj',
    xml: 'linux-drm-syncobj-v1.xml',
    versions: {
      wp_linux_drm_syncobj_manager_v1: 1,
      wp_linux_drm_syncobj_timeline_v1: 1,
      wp_linux_drm_syncobj_surface_v1: 1,
    },
  },
  {
    name: 'tearing-control',
    xml: 'tearing-control-v1.xml',
    versions: { wp_tearing_control_manager_v1: 1, wp_tearing_control_v1: 1 },
  },
  {
    name: 'single-pixel-buffer',
    xml: 'single-pixel-buffer-v1.xml',
    versions: { wp_single_pixel_buffer_manager_v1: 1 },
  },
  {
    name: 'cursor-shape',
    xml: 'cursor-shape-v1.xml',
    versions: { wp_cursor_shape_manager_v1: 2, wp_cursor_shape_device_v1: 2 },
  },
  {
    name: 'tablet',
    xml: 'tablet-v2.xml',
    versions: {
      zwp_tablet_manager_v2: 1,
      zwp_tablet_seat_v2: 1,
      zwp_tablet_tool_v2: 1,
      zwp_tablet_v2: 1,
      zwp_tablet_pad_v2: 1,
      zwp_tablet_pad_group_v2: 1,
      zwp_tablet_pad_ring_v2: 1,
      zwp_tablet_pad_strip_v2: 1,
    },
  },
  {
    name: 'relative-pointer',
    xml: 'relative-pointer-unstable-v1.xml',
    versions: { zwp_relative_pointer_manager_v1: 1, zwp_relative_pointer_v1: 1 },
  },
  {
    name: 'pointer-constraints',
    xml: 'pointer-constraints-unstable-v1.xml',
    versions: { zwp_pointer_constraints_v1: 1, zwp_locked_pointer_v1: 1, zwp_confined_pointer_v1: 1 },
  },
  {
    name: 'keyboard-shortcuts-inhibit',
    xml: 'keyboard-shortcuts-inhibit-unstable-v1.xml',
    versions: { zwp_keyboard_shortcuts_inhibit_manager_v1: 1, zwp_keyboard_shortcuts_inhibitor_v1: 1 },
  },
];
