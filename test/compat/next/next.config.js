import { fileURLToPath } from 'node:url'

/** @type {import('next').NextConfig} */
export default {
  // Packages with connections of their own are not bundled.
  serverExternalPackages: ['rowhouse', 'pg', 'kysely'],
  turbopack: { root: fileURLToPath(new URL('../../..', import.meta.url)) },
  reactStrictMode: true,
}
