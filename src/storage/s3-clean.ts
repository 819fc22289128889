import { nameOf } from './s3-failures.ts'
import type { S3Requests } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'

/** An upload that has got no part for so long is given up: whoever is alive sends one every few seconds. */
const abandonedAfterMs = 24 * 3600 * 1000

const doing = 'clean up unfinished uploads'

/**
 * Aborts uploads below the prefix that nobody goes on with: the server keeps their parts, and charges for them, until
 * somebody does. Whose they are is not told, only when they began and got their last part. Returns how many it aborted.
 */
export async function abortAbandoned(settings: S3Settings, requests: S3Requests, now: Date): Promise<number> {
  let aborted = 0
  for await (const { key, id, initiated } of unfinished(settings, requests)) {
    const target = { Bucket: settings.bucket, Key: key, UploadId: id }
    const isOld = (date: Date): boolean => now.getTime() - date.getTime() > abandonedAfterMs
    if (!isOld(initiated)) continue
    try {
      if (!isOld(await lastPart(requests, target, initiated))) continue
      await requests.call({ doing }, (client, stop) => client.abortMultipartUpload(target, { abortSignal: stop }))
      aborted += 1
    } catch (error) {
      // It was finished or aborted meanwhile.
      if (nameOf(error) !== 'NoSuchUpload') throw error
    }
  }
  return aborted
}

interface Target {
  readonly Bucket: string
  readonly Key: string
  readonly UploadId: string
}

/** When the upload got its newest part, or began. */
async function lastPart(requests: S3Requests, target: Target, initiated: Date): Promise<Date> {
  let newest = initiated
  let marker: string | undefined
  do {
    const page = await requests.call({ doing }, (client, stop) =>
      client.listParts(
        { ...target, ...(marker ? { PartNumberMarker: marker } : {}) },
        {
          abortSignal: stop,
        },
      ),
    )
    for (const { LastModified } of page.Parts ?? []) if (LastModified && LastModified > newest) newest = LastModified
    marker = page.IsTruncated ? page.NextPartNumberMarker : undefined
  } while (marker)
  return newest
}

async function* unfinished(settings: S3Settings, requests: S3Requests) {
  let markers: { KeyMarker?: string; UploadIdMarker?: string } | null = {}
  while (markers !== null) {
    const from: { KeyMarker?: string; UploadIdMarker?: string } = markers
    const page = await requests.call({ doing }, (client, stop) =>
      client.listMultipartUploads(
        { Bucket: settings.bucket, Prefix: settings.prefix, ...from },
        {
          abortSignal: stop,
        },
      ),
    )
    for (const { Key: key, UploadId: id, Initiated: initiated } of page.Uploads ?? []) {
      if (key && id && initiated) yield { key, id, initiated }
    }
    const { NextKeyMarker: key, NextUploadIdMarker: id } = page
    const goesOn = page.IsTruncated && key && key !== from.KeyMarker
    markers = goesOn ? { KeyMarker: key, ...(id ? { UploadIdMarker: id } : {}) } : null
  }
}
