/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Places of disks as /proc, /sys and udev's database tell them. */
#include "control/place.h"

/* Where the daemon would switch the light: for people who may when it may not. */
#define PLACE_LED_PATH "/sys/class/enclosure/%s/%s/locate"

/* The context is a string: what stands before /proc, /sys and /run, "" but in tests. */
extern const struct place_ops place_real_ops;
