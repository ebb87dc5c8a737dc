//! `ImageSteps`: the steps from the bytes of a PNG or JPEG to numbers. They are defined like in
//! Pillow and Hugging Face's transformers.

use fast_image_resize::{
    FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::TypedImage,
    pixels::{U8, U8x3},
};
use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, Limits};

use crate::transform::steps::{ColorMode, Interpolation, Layout};

/// Maximum width and height. A small file may declare any size, so the size is checked before
/// memory is allocated for the pixels.
const MAX_SIDE: u32 = 16_384;

/// Maximum number of bytes that decoding may allocate. It is enough for a square colour image of
/// 9,000 pixels per side.
const MAX_BYTES: u64 = 256 << 20;

/// Why an image is refused. The message follows the name of the field.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error(transparent)]
    Read(std::io::Error),
    #[error("is not a PNG or JPEG that can be read")]
    Decode(#[source] image::ImageError),
    #[error(transparent)]
    PixelBuffer(fast_image_resize::ImageBufferError),
    #[error(transparent)]
    Resize(fast_image_resize::ResizeError),
    #[error("is {height} x {width} pixels, too small for a crop of {crop_height} x {crop_width}")]
    TooSmall {
        height: usize,
        width: usize,
        crop_height: usize,
        crop_width: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct ImageSteps {
    pub mode: ColorMode,
    /// The steps after decoding.
    pub after: Vec<ImageStep>,
    pub layout: Layout,
}

#[derive(Clone, Debug)]
pub(crate) enum ImageStep {
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

/// Pixels with 8 bits per channel, in the order height, width, channels.
struct PixelBuffer {
    height: usize,
    width: usize,
    channels: usize,
    bytes: Vec<u8>,
}

impl ImageSteps {
    /// The number of channels of a pixel.
    pub(crate) fn channels(&self) -> usize {
        match self.mode {
            ColorMode::Grey => 1,
            ColorMode::Rgb => 3,
        }
    }

    /// Applies the steps to one image. Returns the numbers and their shape, without the dimension
    /// of rows.
    pub(crate) fn apply(&self, bytes: &[u8]) -> Result<(Vec<usize>, Vec<f64>), ImageError> {
        let mut pixels = decode(bytes, self.mode)?;
        // Resizing and cropping change 8-bit pixels, like in Pillow. The first arithmetic step
        // converts the pixels to float64.
        let mut numbers: Option<Vec<f64>> = None;
        for step in &self.after {
            match step {
                ImageStep::Resize {
                    height,
                    width,
                    interpolation,
                } => pixels = resize(&mut pixels, *height, *width, *interpolation)?,
                ImageStep::CenterCrop { height, width } => pixels = crop(&pixels, *height, *width)?,
                ImageStep::Rescale(factor) => numbers
                    .get_or_insert_with(|| to_float64(&pixels))
                    .iter_mut()
                    .for_each(|x| *x *= factor),
                ImageStep::Normalize { mean, std } => {
                    let numbers = numbers.get_or_insert_with(|| to_float64(&pixels));
                    normalize(numbers, mean, std);
                }
            }
        }
        let numbers = numbers.unwrap_or_else(|| to_float64(&pixels));
        let PixelBuffer {
            height,
            width,
            channels,
            ..
        } = pixels;
        Ok(match self.layout {
            Layout::Nhwc => (vec![height, width, channels], numbers),
            // The layout has one plane per channel.
            Layout::Nchw => {
                let planes = (0..channels)
                    .flat_map(|channel| numbers.iter().skip(channel).step_by(channels).copied());
                (vec![channels, height, width], planes.collect())
            }
        })
    }
}

/// Computes (x - mean) / std, with one mean and one standard deviation per channel.
fn normalize(numbers: &mut [f64], mean: &[f64], std: &[f64]) {
    // `compile` checks that both lists have one value per channel.
    for pixel in numbers.chunks_mut(mean.len().max(1)) {
        for ((x, mean), std) in pixel.iter_mut().zip(mean).zip(std) {
            *x = (*x - mean) / std;
        }
    }
}

fn to_float64(pixels: &PixelBuffer) -> Vec<f64> {
    pixels.bytes.iter().map(|byte| f64::from(*byte)).collect()
}

fn decode(bytes: &[u8], mode: ColorMode) -> Result<PixelBuffer, ImageError> {
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(ImageError::Read)?;
    // The header is read first, so that a small file with a huge image costs no memory.
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(ImageError::Decode)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, bytes) = match mode {
        ColorMode::Grey => (1, grey(image)),
        ColorMode::Rgb => (3, image.into_rgb8().into_raw()),
    };
    Ok(PixelBuffer {
        height,
        width,
        channels,
        bytes,
    })
}

/// Converts to mode "L" of Pillow: L = (R * 19595 + G * 38470 + B * 7471 + 0x8000) >> 16. These are
/// the weights of ITU-R 601-2 in fixed point. Alpha is dropped.
fn grey(image: DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma8(_)
        | DynamicImage::ImageLumaA8(_)
        | DynamicImage::ImageLuma16(_)
        // Grey images need no weights for colours.
        | DynamicImage::ImageLumaA16(_) => image.into_luma8().into_raw(),
        color => {
            let rgb = color.into_rgb8();
            let luma = |pixel: &image::Rgb<u8>| {
                let [r, g, b] = pixel.0.map(u32::from);
                ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
            };
            rgb.pixels().map(luma).collect()
        }
    }
}

/// The formats that the image steps read.
const READ_FORMATS: [ImageFormat; 2] = [ImageFormat::Png, ImageFormat::Jpeg];

/// The media type according to the first bytes. The image steps may not support it: see
/// [`is_read`].
pub(crate) fn media_type(bytes: &[u8]) -> Option<&'static str> {
    image::guess_format(bytes)
        .ok()
        .map(|format| format.to_mime_type())
}

/// Whether the image steps read this media type.
pub(crate) fn is_read(media_type: &str) -> bool {
    READ_FORMATS
        .iter()
        .any(|format| format.to_mime_type() == media_type)
}

/// A uniform grey image in base64, which has few bytes for any size. `None` for a media type that
/// the image steps do not read.
pub(crate) fn grey_image(media_type: &str, width: u32, height: u32) -> Option<String> {
    let format = READ_FORMATS
        .into_iter()
        .find(|format| format.to_mime_type() == media_type)?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    GrayImage::from_pixel(width, height, image::Luma([128]))
        .write_to(&mut bytes, format)
        .ok()?;
    Some(base64_simd::STANDARD.encode_to_string(bytes.into_inner()))
}

/// The width and height in the header of the file. The pixels are not decoded.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .ok()?
        .into_dimensions()
        .ok()
}

fn resize(
    pixels: &mut PixelBuffer,
    height: u32,
    width: u32,
    interpolation: Interpolation,
) -> Result<PixelBuffer, ImageError> {
    // For `nearest`, the library selects different pixels from Pillow.
    if interpolation == Interpolation::Nearest {
        return Ok(nearest(pixels, height as usize, width as usize));
    }
    // Pillow's bicubic filter is the Catmull-Rom filter (a = -0.5). Its Lanczos filter has a radius
    // of 3.
    let filter = match interpolation {
        Interpolation::Nearest | Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
        Interpolation::Lanczos => FilterType::Lanczos3,
    };
    let bytes = match pixels.channels {
        1 => convolved::<U8>(pixels, height, width, filter)?,
        // Grey and RGB are the only modes.
        _ => convolved::<U8x3>(pixels, height, width, filter)?,
    };
    Ok(PixelBuffer {
        height: height as usize,
        width: width as usize,
        channels: pixels.channels,
        bytes,
    })
}

/// Resizes by convolution. `P` is the type of a pixel. The library's untyped function would choose
/// the type itself, but compiles the code for every type of pixel, which takes a minute. The source
/// is borrowed mutably only because a separate type for shared sources would compile the code
/// twice.
fn convolved<P: PixelTrait>(
    pixels: &mut PixelBuffer,
    height: u32,
    width: u32,
    filter: FilterType,
) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0; height as usize * width as usize * pixels.channels];
    let (from_width, from_height) = (pixels.width as u32, pixels.height as u32);
    let source = TypedImage::<P>::from_buffer(from_width, from_height, &mut pixels.bytes);
    let target = TypedImage::<P>::from_buffer(width, height, &mut bytes);
    let (source, mut target) = (
        source.map_err(ImageError::PixelBuffer)?,
        target.map_err(ImageError::PixelBuffer)?,
    );
    Resizer::new()
        .resize_typed(
            &source,
            &mut target,
            &ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)),
        )
        .map_err(ImageError::Resize)?;
    Ok(bytes)
}

/// Resizes like Pillow: each new pixel gets the value of the old pixel under its centre.
fn nearest(pixels: &PixelBuffer, height: usize, width: usize) -> PixelBuffer {
    let pick = |size: usize, from: usize| -> Vec<usize> {
        let scale = from as f64 / size as f64;
        // Computed as a sum instead of a product, like in Pillow: if a centre is at the boundary of
        // two pixels, the rounding decides.
        let mut centre = scale * 0.5;
        let mut picked = Vec::with_capacity(size);
        for _ in 0..size {
            picked.push((centre as usize).min(from.saturating_sub(1)));
            centre += scale;
        }
        picked
    };
    let (rows, columns) = (pick(height, pixels.height), pick(width, pixels.width));
    let mut bytes = Vec::with_capacity(height * width * pixels.channels);
    for row in rows {
        for column in &columns {
            let at = (row * pixels.width + column) * pixels.channels;
            bytes.extend_from_slice(
                pixels
                    .bytes
                    .get(at..at + pixels.channels)
                    .unwrap_or_default(),
            );
        }
    }
    PixelBuffer {
        height,
        width,
        channels: pixels.channels,
        bytes,
    }
}

/// Crops the centre like Hugging Face's transformers: the upper left corner is rounded down.
/// (torchvision rounds it to even.)
fn crop(pixels: &PixelBuffer, height: usize, width: usize) -> Result<PixelBuffer, ImageError> {
    if pixels.height < height || pixels.width < width {
        return Err(ImageError::TooSmall {
            height: pixels.height,
            width: pixels.width,
            crop_height: height,
            crop_width: width,
        });
    }
    let (top, left) = ((pixels.height - height) / 2, (pixels.width - width) / 2);
    let row_bytes = pixels.width * pixels.channels;
    let rows = pixels.bytes.chunks(row_bytes.max(1)).skip(top).take(height);
    let bytes = rows
        .flat_map(|row| {
            row.iter()
                .skip(left * pixels.channels)
                .take(width * pixels.channels)
                .copied()
        })
        .collect();
    Ok(PixelBuffer {
        height,
        width,
        channels: pixels.channels,
        bytes,
    })
}
