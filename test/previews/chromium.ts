import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from './page.ts'

/** It reaches nothing: pages are files, and hold all that they need. */
const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--no-first-run',
  '--hide-scrollbars',
  '--force-device-scale-factor=1',
  '--force-color-profile=srgb',
  '--font-render-hinting=none',
  '--proxy-server=127.0.0.1:9',
  '--virtual-time-budget=3000',
]

/** Runs headless Chromium over a page until it is drawn; returns what it prints. Throws what it says when it fails. */
async function run(page: Page, ...more: readonly string[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lifeboat-preview-'))
  try {
    const file = join(directory, 'page.html')
    await writeFile(file, page.html)
    const child = spawn(
      'chromium',
      [
        ...flags,
        `--user-data-dir=${join(directory, 'profile')}`,
        `--window-size=${page.width},${page.height}`,
        ...more,
        `file://${file}`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TZ: 'UTC' } },
    )
    const [out, said]: [Buffer[], Buffer[]] = [[], []]
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => said.push(chunk))
    const [status] = (await once(child, 'close')) as [number | null]
    if (status !== 0) throw new Error(`chromium ended with ${status}: ${Buffer.concat(said).toString()}`)
    return Buffer.concat(out).toString()
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Writes a picture of it, as PNG of few colours. */
export async function photograph(page: Page, file: string): Promise<void> {
  await run(page, `--screenshot=${file}`)
  const { status, stderr, error } = spawnSync(
    'pngquant',
    ['--force', '--strip', '--nofs', '--output', file, '96', file],
    {
      encoding: 'utf8',
    },
  )
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`pngquant: ${stderr}`)
}

/** The page after its scripts have run, as HTML. */
export async function domOf(page: Page): Promise<string> {
  return run(page, '--dump-dom')
}
