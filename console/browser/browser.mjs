// Debian's Chromium, without a window.
import { chromium } from 'playwright-core';

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // In a container there is no user namespace to build a sandbox of; what is opened is ours alone.
    args: ['--no-sandbox', '--disable-gpu', '--force-color-profile=srgb'],
  });
