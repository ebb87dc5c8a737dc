//! Image steps: from the bytes of a PNG or JPEG to numbers, by Pillow's definitions.

use fast_image_resize::{
    FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::{U8, U8x3},
};
use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, Limits};

use crate::transform::steps::{Interpolation, Layout, Mode};

/// Larger images are refused before memory is spent on their pixels.
const MAX_SIDE: u32 = 16_384;
const MAX_BYTES: u64 = 256 << 20;

#[derive(Clone, Debug)]
pub struct ImageSteps {
    pub mode: Mode,
    pub after: Vec<ImageStep>,
    pub layout: Layout,
}

#[derive(Clone, Debug)]
pub enum ImageStep {
    Resize {
        height: u32,
        width: u32,
        interpolation: Interpolation,
    },
    CenterCrop {
        height: usize,
        width: usize,
    },
    Rescale(f64),
    Normalize {
        mean: Vec<f64>,
        std: Vec<f64>,
    },
}

/// Height x width x channels; bytes until a step makes numbers of them.
struct Picture {
    height: usize,
    width: usize,
    channels: usize,
    bytes: Vec<u8>,
}

impl ImageSteps {
    pub fn channels(&self) -> usize {
        match self.mode {
            Mode::Grey => 1,
            Mode::Rgb => 3,
        }
    }

    /// The numbers of one image and their shape, without the batch axis.
    pub fn apply(&self, bytes: &[u8]) -> Result<(Vec<usize>, Vec<f64>), String> {
        let mut picture = decode(bytes, self.mode)?;
        let mut numbers: Option<Vec<f64>> = None;
        for step in &self.after {
            match step {
                ImageStep::Resize {
                    height,
                    width,
                    interpolation,
                } => picture = resize(&picture, *height, *width, *interpolation)?,
                ImageStep::CenterCrop { height, width } => {
                    picture = crop(&picture, *height, *width)?
                }
                ImageStep::Rescale(factor) => numbers
                    .get_or_insert_with(|| widen(&picture))
                    .iter_mut()
                    .for_each(|x| *x *= factor),
                ImageStep::Normalize { mean, std } => {
                    let numbers = numbers.get_or_insert_with(|| widen(&picture));
                    for pixel in numbers.chunks_mut(picture.channels) {
                        for ((x, mean), std) in pixel.iter_mut().zip(mean).zip(std) {
                            *x = (*x - mean) / std;
                        }
                    }
                }
            }
        }
        let numbers = numbers.unwrap_or_else(|| widen(&picture));
        let Picture {
            height,
            width,
            channels,
            ..
        } = picture;
        Ok(match self.layout {
            Layout::Nhwc => (vec![height, width, channels], numbers),
            Layout::Nchw => {
                let planes = (0..channels)
                    .flat_map(|channel| numbers.iter().skip(channel).step_by(channels).copied());
                (vec![channels, height, width], planes.collect())
            }
        })
    }
}

fn widen(picture: &Picture) -> Vec<f64> {
    picture.bytes.iter().map(|byte| f64::from(*byte)).collect()
}

fn decode(bytes: &[u8], mode: Mode) -> Result<Picture, String> {
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let image = reader
        .decode()
        .map_err(|error| format!("is not a PNG or JPEG that can be read: {error}"))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, bytes) = match mode {
        Mode::Grey => (1, grey(image)),
        Mode::Rgb => (3, image.into_rgb8().into_raw()),
    };
    Ok(Picture {
        height,
        width,
        channels,
        bytes,
    })
}

/// Pillow's "L": L = (R * 19595 + G * 38470 + B * 7471 + 0x8000) >> 16; alpha is dropped.
fn grey(image: DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma8(_)
        | DynamicImage::ImageLumaA8(_)
        | DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_) => image.into_luma8().into_raw(),
        colour => {
            let pixels = colour.into_rgb8();
            let luma = |pixel: &image::Rgb<u8>| {
                let [r, g, b] = pixel.0.map(u32::from);
                ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
            };
            pixels.pixels().map(luma).collect()
        }
    }
}

/// Formats that the image steps read.
const READ: [ImageFormat; 2] = [ImageFormat::Png, ImageFormat::Jpeg];

/// The media type that the first bytes show, whether the steps read it or not.
pub fn media_type(bytes: &[u8]) -> Option<&'static str> {
    image::guess_format(bytes)
        .ok()
        .map(|format| format.to_mime_type())
}

/// Whether the image steps read this media type.
pub fn is_read(media_type: &str) -> bool {
    READ.iter()
        .any(|format| format.to_mime_type() == media_type)
}

/// An even grey image of the media type in base64: few bytes, whatever its size. `None` where the media type is not read.
pub fn grey_image(media_type: &str, width: u32, height: u32) -> Option<String> {
    let format = READ
        .into_iter()
        .find(|format| format.to_mime_type() == media_type)?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    GrayImage::from_pixel(width, height, image::Luma([128]))
        .write_to(&mut bytes, format)
        .ok()?;
    Some(base64_simd::STANDARD.encode_to_string(bytes.into_inner()))
}

/// Width and height by the header, without the pixels.
pub fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .ok()?
        .into_dimensions()
        .ok()
}

fn resize(
    picture: &Picture,
    height: u32,
    width: u32,
    interpolation: Interpolation,
) -> Result<Picture, String> {
    if interpolation == Interpolation::Nearest {
        return Ok(nearest(picture, height as usize, width as usize));
    }
    let filter = match interpolation {
        Interpolation::Nearest | Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
        Interpolation::Lanczos => FilterType::Lanczos3,
    };
    let bytes = match picture.channels {
        1 => convolved::<U8>(picture, height, width, filter)?,
        _ => convolved::<U8x3>(picture, height, width, filter)?,
    };
    Ok(Picture {
        height: height as usize,
        width: width as usize,
        channels: picture.channels,
        bytes,
    })
}

/// By the kind of its pixels: the library's own choice among all kinds, with its code for every kind, would take a minute to compile.
fn convolved<P: PixelTrait>(
    picture: &Picture,
    height: u32,
    width: u32,
    filter: FilterType,
) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; height as usize * width as usize * picture.channels];
    let source = TypedImageRef::<P>::from_buffer(
        picture.width as u32,
        picture.height as u32,
        &picture.bytes,
    );
    let target = TypedImage::<P>::from_buffer(width, height, &mut bytes);
    let (source, mut target) = (
        source.map_err(|error| error.to_string())?,
        target.map_err(|error| error.to_string())?,
    );
    Resizer::new()
        .resize_typed(
            &source,
            &mut target,
            &ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)),
        )
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The pixel under the centre of each new one, as Pillow chooses it.
fn nearest(picture: &Picture, height: usize, width: usize) -> Picture {
    let pick = |size: usize, from: usize| -> Vec<usize> {
        let scale = from as f64 / size as f64;
        // Added up step by step, as Pillow does: at a boundary between two pixels the rounding decides.
        let mut centre = scale * 0.5;
        let mut picked = Vec::with_capacity(size);
        for _ in 0..size {
            picked.push((centre as usize).min(from.saturating_sub(1)));
            centre += scale;
        }
        picked
    };
    let (rows, columns) = (pick(height, picture.height), pick(width, picture.width));
    let mut bytes = Vec::with_capacity(height * width * picture.channels);
    for row in rows {
        for column in &columns {
            let at = (row * picture.width + column) * picture.channels;
            bytes.extend_from_slice(
                picture
                    .bytes
                    .get(at..at + picture.channels)
                    .unwrap_or_default(),
            );
        }
    }
    Picture {
        height,
        width,
        channels: picture.channels,
        bytes,
    }
}

/// The centre as Hugging Face's transformers takes it: the upper left corner is rounded down (torchvision rounds it to even).
fn crop(picture: &Picture, height: usize, width: usize) -> Result<Picture, String> {
    if picture.height < height || picture.width < width {
        return Err(format!(
            "is {} x {} pixels, too small for a crop of {height} x {width}",
            picture.height, picture.width
        ));
    }
    let (top, left) = ((picture.height - height) / 2, (picture.width - width) / 2);
    let row_bytes = picture.width * picture.channels;
    let rows = picture
        .bytes
        .chunks(row_bytes.max(1))
        .skip(top)
        .take(height);
    let bytes = rows
        .flat_map(|row| {
            row.iter()
                .skip(left * picture.channels)
                .take(width * picture.channels)
                .copied()
        })
        .collect();
    Ok(Picture {
        height,
        width,
        channels: picture.channels,
        bytes,
    })
}
